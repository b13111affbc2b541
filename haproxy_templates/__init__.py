"""The Jinja2 templates of haproxy.cfg; they print what synapse decided and decide nothing."""
