"""What is handed to Prometheus and Grafana: dashboards, rules and the scrape configuration, each from one table.

`smartstack monitoring` writes them, and so are the files below config/ made: a test compares. Another holds every name
of a metric in here against what the two daemons export.
"""
