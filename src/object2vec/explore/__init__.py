"""A page that shows the objects of a model on a map."""
