"""A self-contained HTML page that shows films in two dimensions; it works offline."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.manifold import TSNE

#: Groups of genres and their colors. A film belongs to the first group with one of its genres.
GROUPS = {
    "Animation and children's": (("Animation", "Children"), "#e69f00"),
    "Horror": (("Horror",), "#a3195b"),
    "Science fiction": (("Sci-Fi",), "#0072b2"),
    "Action and adventure": (("Action", "Adventure"), "#d55e00"),
    "Crime and thriller": (("Crime", "Thriller", "Mystery", "Film-Noir"), "#5b4b9a"),
    "Romance": (("Romance",), "#e377b5"),
    "Comedy": (("Comedy",), "#2ca089"),
    "Drama and others": ((), "#b0b4ba"),
}
#: Maximum number of titles, and their minimum distance in x and y; the figure is 1 by 1.
MAX_LABELS, MIN_LABEL_DISTANCE = 40, (0.13, 0.05)
HALO = "rgba(255, 255, 255, 0.6)"

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Films, by who rates them</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #24292f; max-width: 1200px; margin: 2rem auto; padding: 0 1.5rem }
  h1 { font-size: 1.6rem; margin: 0 }
  p { max-width: 52rem; margin: .4rem 0 }
  .small { color: #57606a; font-size: .9rem }
</style>
<h1>Films, by who rates them</h1>
<p>
  $count films that $least people or more have rated. Films that the same people rate are near each other. The model
  uses no other data: no titles, years, genres or stars.
</p>
$figure
<p class="small">
  Each dot is a film; larger dots have more ratings. The model learned $dim numbers per film by separating the films of
  a user from random ones. t-SNE projects them to two dimensions. Distances matter; the axes have no meaning. Films are
  grouped by year first and by genre second, because people rate films of their time. Point at a film for its title.
  Drag to zoom in; double-click to zoom out. Click a genre to hide it; double-click to show it alone.
</p>
</html>
""")


def write_page(path: Path, films: pd.DataFrame, vectors: np.ndarray[Any, Any]) -> None:
    """Draw films (title, year, genres, number of ratings) by their embeddings, one row each."""
    drawn = films.assign(group=films.genres.map(group)).join(in_two_dimensions(films.index, vectors))
    figure = go.Figure([dots(name, drawn[drawn.group == name]) for name in GROUPS])
    for film in landmarks(drawn).itertuples():
        figure.add_annotation(
            x=film.x,
            y=film.y,
            text=short(film.title),
            showarrow=False,
            yshift=11,
            font_size=11,
            bgcolor=HALO,
            borderpad=0,
        )
    figure.update_layout(
        template="plotly_white",
        height=760,
        margin={"l": 0, "r": 0, "t": 60, "b": 0},
        xaxis={"visible": False, "range": [-0.06, 1.06]},
        yaxis={"visible": False, "range": [-0.03, 1.05]},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "itemsizing": "constant"},
        hoverlabel={"bgcolor": "white"},
    )
    html = figure.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False, "responsive": True})
    page = PAGE.substitute(count=f"{len(films):,}", least=films.ratings.min(), dim=vectors.shape[1], figure=html)
    path.write_text(page, encoding="utf-8")


def group(genres: str) -> str:
    has = set(genres.split("|"))
    return next((name for name, (wanted, _) in GROUPS.items() if has & set(wanted)), "Drama and others")


def in_two_dimensions(index: pd.Index, vectors: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Project embeddings with t-SNE on cosines to x and y from 0 to 1."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    places = TSNE(init="pca", random_state=0).fit_transform(units)
    return pd.DataFrame((places - places.min(axis=0)) / np.ptp(places, axis=0), index=index, columns=["x", "y"])


def dots(name: str, films: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=films.x,
        y=films.y,
        mode="markers",
        marker={
            "color": GROUPS[name][1],
            "size": 3 + 0.7 * np.sqrt(films.ratings),
            "opacity": 0.8,
            "line": {"width": 0.5, "color": "white"},
        },
        customdata=films[["title", "year", "genres", "ratings"]],
        hovertemplate="<b>%{customdata[0]}</b> (%{customdata[1]:.0f})<br>%{customdata[2]}"
        "<br>%{customdata[3]} ratings<extra></extra>",
    )


def landmarks(films: pd.DataFrame) -> pd.DataFrame:
    """Return the films with most ratings that have the minimum distance from each other."""
    chosen: list[int] = []
    for film in films.sort_values("ratings", ascending=False).index:
        away = (films.loc[chosen, ["x", "y"]] - films.loc[film, ["x", "y"]]).abs()
        if (away > MIN_LABEL_DISTANCE).any(axis=1).all():
            chosen.append(film)
    return films.loc[chosen[:MAX_LABELS]]


def short(title: str) -> str:
    """Return a short title: article first, without translations and long subtitles."""
    head = re.split(r" \(| or:|: (?=.{15})", title)[0]
    return re.sub(r"^(.*), (The|An?)$", r"\2 \1", head)
