"""Evaluate a model: metrics of classification, regression and ranking, baselines, and a report."""
