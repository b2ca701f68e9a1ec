"""Raw tables to channels of pairs, with a schema and hyperparameters that fit."""
