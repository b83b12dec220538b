"""The order of a graph's work: what runs when, over what memory, and what can then be let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from medptq.graph.operators import OPERATORS, Node, Operator


@dataclass(frozen=True)
class Step:
    """One node, and what may be done around it.

    Attributes:
        node: The node.
        operator: How it is computed.
        overwrites: Name of the value that the output may be written over, or None.
        releases: Names of the values that nothing after this step needs.
        keeps: Names of the outputs that something after this step needs.
    """

    node: Node
    operator: Operator
    overwrites: str | None
    releases: tuple[str, ...]
    keeps: frozenset[str]


def plan(nodes: Sequence[Node], constants: Collection[str], outputs: Collection[str]) -> list[Step]:
    """Plan the execution of nodes that are in topological order.

    Args:
        nodes: The nodes.
        constants: Names of the values that outlive every run.
        outputs: Names of the graph's outputs.
    """
    uses = Counter(name for node in nodes for name in node.inputs)
    last_use = {name: place for place, node in enumerate(nodes) for name in node.inputs}
    owned: set[str] = set()  # Values whose memory no other value shares.
    steps = []
    for place, node in enumerate(nodes):
        operator = OPERATORS[node.op_type]
        overwrites = None
        if operator.evaluate_in_place is not None:
            first = node.inputs[0]
            # A value with one use has no view of it either, and none can be made later.
            if first in owned and uses[first] == 1 and first not in outputs:
                overwrites = first
        if operator.allocates:
            owned.update(node.outputs)
        steps.append(
            Step(
                node=node,
                operator=operator,
                overwrites=overwrites,
                releases=tuple(
                    name
                    for name in dict.fromkeys(node.inputs)
                    if name
                    and name not in constants
                    and name not in outputs
                    and last_use[name] == place
                ),
                keeps=frozenset(
                    name for name in node.outputs if name in last_use or name in outputs
                ),
            )
        )
    return steps


def constants_on_host(nodes: Sequence[Node], constants: Collection[str]) -> set[str]:
    """Return the names of the constants that only Python's own arithmetic on shapes reads.

    Those stay in CPU memory whatever the device, as do all values worked out from shapes alone.
    """
    hosted: set[str] = set()
    on_device: set[str] = set()
    for node in nodes:
        host_inputs = OPERATORS[node.op_type].host_inputs
        computed = [name for name in node.inputs if name and name not in constants]
        all_hosted = bool(computed) and all(name in hosted for name in computed)
        if all_hosted or node.op_type in ("Shape", "Size"):
            hosted.update(node.outputs)
        if not all_hosted:
            on_device.update(
                name for place, name in enumerate(node.inputs) if place not in host_inputs
            )
    return {name for name in constants if name not in on_device}
