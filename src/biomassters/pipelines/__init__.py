"""Kedro pipelines: thin verbs over the packages below."""

from kedro.pipeline import Node, Pipeline


def namespaced(namespace: str, *nodes: Node) -> Pipeline:
    """Nodes of one namespace, in which datasets keep their names of the catalog."""
    return Pipeline(nodes, namespace=namespace, prefix_datasets_with_namespace=False)
