"""Two encoders, a comparator and a head. Knows neither training nor files."""
