"""Search among the objects of one side of a model: neighbors, and recommendations for objects of the other side."""
