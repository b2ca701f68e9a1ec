"""The platform: /opt/ml, its configuration files, environment, signals and exit codes. Nothing else knows them."""
