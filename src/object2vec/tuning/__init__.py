"""Search hyperparameters: train with many settings, and keep the best model."""
