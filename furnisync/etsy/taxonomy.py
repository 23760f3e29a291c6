"""The seller taxonomy as a tree."""

import logging
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from furnisync.etsy.models import TaxonomyNode, decode_object

log = logging.getLogger("furnisync.etsy")


class Node(msgspec.Struct, frozen=True):
    """One node of the flattened tree."""

    taxonomy_id: int
    parent_id: int | None
    name: str | None


def flatten(roots: Iterable[TaxonomyNode]) -> list[Node]:
    """All nodes of the answer of getSellerTaxonomyNodes, each once.

    The tree follows `children`, because `parent_id` may be null. A broken node is left out
    with all nodes below it.
    """
    nodes: dict[int, Node] = {}
    waiting = [(root, root.parent_id) for root in roots]
    while waiting:
        node, parent_id = waiting.pop()
        nodes[node.id] = Node(node.id, parent_id, node.name)
        waiting += [(child, node.id) for child in _children(node)]
    return sorted(nodes.values(), key=lambda node: node.taxonomy_id)


def _children(node: TaxonomyNode) -> Iterator[TaxonomyNode]:
    for raw in node.children or ():
        try:
            yield decode_object(raw, TaxonomyNode)
        except ValueError as error:
            log.warning("taxonomy %d has a broken child: %s", node.id, error)


class Tree:
    """Queries of the flattened tree."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes: Mapping[int, Node] = {node.taxonomy_id: node for node in nodes}
        self._children: dict[int | None, list[int]] = {}
        for node in self._nodes.values():
            self._children.setdefault(node.parent_id, []).append(node.taxonomy_id)

    def __contains__(self, taxonomy_id: int) -> bool:
        return taxonomy_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def name(self, taxonomy_id: int) -> str | None:
        """The node's name."""
        node = self._nodes.get(taxonomy_id)
        return None if node is None else node.name

    def children(self, taxonomy_id: int) -> list[int]:
        """The nodes directly below."""
        return sorted(self._children.get(taxonomy_id, ()))

    def subtree(self, taxonomy_id: int) -> frozenset[int]:
        """The node and all nodes below it."""
        found = {taxonomy_id}
        waiting = [taxonomy_id]
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return frozenset(found)
