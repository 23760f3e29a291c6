"""The seller taxonomy: all of furniture, a few other branches, and changes to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FURNITURE", "LEAF_WEIGHTS", "OTHER_LEAVES", "Node", "Taxonomy"]

FURNITURE = 967

# (id, name, parent); a parent comes before its children.
_NODES: tuple[tuple[int, str, int | None], ...] = (
    (66, "Art & Collectibles", None),
    (68, "Prints", 66),
    (119, "Photography", 66),
    (562, "Craft Supplies & Tools", None),
    (6648, "Patterns & How To", 562),
    (891, "Home & Living", None),
    (1045, "Lighting", 891),
    (1046, "Floor Lamps", 1045),
    (1024, "Home Decor", 891),
    (1029, "Mirrors", 1024),
    (1179, "Jewelry", None),
    (1203, "Necklaces", 1179),
    (967, "Furniture", 891),
    (968, "Bedroom Furniture", 967),
    (969, "Beds & Headboards", 968),
    (12455, "Bed Frames", 969),
    (12456, "Headboards", 969),
    (970, "Dressers & Armoires", 968),
    (971, "Steps & Stools", 968),
    (972, "Nightstands", 968),
    (12470, "Vanity Tables", 968),
    (973, "Dining Room Furniture", 967),
    (974, "Buffets & China Cabinets", 973),
    (975, "Dining Chairs", 973),
    (976, "Dining Sets", 973),
    (977, "Kitchen & Dining Tables", 973),
    (978, "Stools & Banquettes", 973),
    (11837, "Kitchen Islands", 973),
    (979, "Entryway Furniture", 967),
    (12403, "Hall Trees", 979),
    (12405, "Standing Coat Racks", 979),
    (12406, "Umbrella Stands", 979),
    (980, "Kids' Furniture", 967),
    (981, "Bean Bag Chairs", 980),
    (982, "Benches & Toy Boxes", 980),
    (983, "Bookcases", 980),
    (985, "Desks, Tables & Chairs", 980),
    (986, "Dressers & Drawers", 980),
    (987, "Steps & Stools", 980),
    (988, "Toddler Beds", 980),
    (989, "Living Room Furniture", 967),
    (990, "Benches & Trunks", 989),
    (12369, "Benches", 990),
    (12370, "Trunks", 990),
    (991, "Bookshelves", 989),
    (992, "Chairs", 989),
    (993, "Coffee & End Tables", 989),
    (12371, "Coffee Tables", 993),
    (12372, "End Tables", 993),
    (994, "Console Tables & TV Stands", 989),
    (11355, "Console & Sofa Tables", 994),
    (11356, "TV Stands & Media Centers", 994),
    (996, "Floor Pillows", 989),
    (997, "Slipcovers", 989),
    (998, "Couches & Loveseats", 989),
    (12216, "Room Dividers", 989),
    (12468, "Ottomans & Poufs", 989),
    (999, "Office Furniture", 967),
    (1000, "Desk Chairs", 999),
    (1001, "Desks", 999),
    (12408, "Filing Cabinets", 999),
)

OTHER_LEAVES = (68, 119, 6648, 1046, 1029, 1203)

# Weights of furniture leaves; every other leaf has weight 1.
LEAF_WEIGHTS = {12371: 9, 977: 7, 992: 7, 991: 6, 12372: 5, 1001: 5, 972: 4, 12468: 4, 996: 4}


@dataclass(slots=True)
class Node:
    """One category and its place in the tree."""

    id: int
    name: str
    parent: Node | None
    children: list[Node] = field(default_factory=list)

    def path(self) -> list[int]:
        """Return the ids from the root down to this node."""
        return [*(self.parent.path() if self.parent else []), self.id]

    def subtree(self) -> list[int]:
        """Return the ids of this node and of all nodes below it."""
        return [self.id, *(i for child in self.children for i in child.subtree())]

    def as_json(self) -> dict[str, Any]:
        """Return the node with all nodes below it, in the form of the API."""
        path = self.path()
        return {
            "id": self.id,
            "level": len(path),
            "name": self.name,
            "parent_id": self.parent.id if self.parent else None,
            "children": [child.as_json() for child in self.children],
            "full_path_taxonomy_ids": path,
        }


class Taxonomy:
    """The tree, to which tests may add nodes and from which they may remove some."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        for node_id, name, parent_id in _NODES:
            self.add(node_id, name, parent_id)

    def add(self, node_id: int, name: str, parent_id: int | None) -> None:
        """Add a node below `parent_id`, or as a root."""
        parent = None if parent_id is None else self.nodes[parent_id]
        node = self.nodes[node_id] = Node(node_id, name, parent)
        if parent:
            parent.children.append(node)

    def drop(self, node_id: int) -> None:
        """Remove a leaf; its listings keep an id that no node has any more."""
        node = self.nodes[node_id]
        if node.children:
            raise ValueError(f"node {node_id} has children")
        if node.parent:
            node.parent.children.remove(node)
        del self.nodes[node_id]

    def subtree(self, node_id: int) -> list[int]:
        """Return the ids that a search for `node_id` covers."""
        return self.nodes[node_id].subtree() if node_id in self.nodes else [node_id]

    def furniture(self) -> list[Node]:
        """Return the furniture nodes, inner ones too."""
        return [self.nodes[i] for i in self.subtree(FURNITURE)]

    def roots(self) -> list[dict[str, Any]]:
        """Return the complete tree in the form of the API."""
        return [node.as_json() for node in self.nodes.values() if node.parent is None]
