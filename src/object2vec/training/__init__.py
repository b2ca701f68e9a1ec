"""From pairs to a trained network. Knows neither files of the platform nor HTTP."""
