"""The daemon of BBQ: it reads schedulers, serves gauges to Prometheus and feeds the history."""
