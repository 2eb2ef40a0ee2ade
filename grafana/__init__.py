"""Dashboards for Grafana, made by Python: `python -m grafana.build` writes dashboards/*.json from boards/*.py."""
