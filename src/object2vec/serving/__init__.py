"""From a request to a reply: decode, predict, encode. Knows HTTP; knows neither training nor the platform."""
