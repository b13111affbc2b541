"""The fault lab: hosts in network namespaces, an ensemble of ZooKeeper servers, and scenarios that break them."""
