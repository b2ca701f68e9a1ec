"""How raw columns become token ids and back."""
