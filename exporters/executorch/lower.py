"""A torch.export program as the bytes of a .pte file, lowered to XNNPACK as far as XNNPACK goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ..torch_capture import explain, quiet_tools

if TYPE_CHECKING:
    import torch

NOT_A_KERNEL = frozenset({"getitem", "alloc", "executorch_call_delegate"})
"""Graph nodes that unpack or hold results and cost no kernel call."""


def lower(program: torch.export.ExportedProgram) -> tuple[bytes, dict[str, Any]]:
    """(.pte file, facts: placement, parts delegated, operators left to portable kernels).

    Raises Unsupported with the operator's name where ExecuTorch has no form of it.
    """
    import torch

    with quiet_tools(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            edge = to_edge_transform_and_lower(
                program, transform_passes=[drop_expansions()], partitioner=[XnnpackPartitioner()]
            )
            facts = delegation(edge.exported_program().graph_module)
            return bytes(edge.to_executorch().buffer), facts
        except Exception as error:  # its passes raise whatever they meet
            reason, op = explain(error)
            raise Unsupported(f"ExecuTorch cannot lower this model: {reason}", op=op) from error


def drop_expansions() -> Any:
    """A pass that removes expansions to the shape a tensor already has.

    torch writes one before each operand of a batched matrix product; XNNPACK does not take the operator, so every one
    would end a delegated part (26 parts of a MiniLM instead of 14).
    """
    from executorch.exir.dialects._ops import ops
    from executorch.exir.pass_base import ExportPass, PassResult

    class DropExpansions(ExportPass):  # type: ignore[misc,unused-ignore]
        def call(self, graph_module: torch.fx.GraphModule) -> PassResult:
            changed = False
            for node in graph_module.graph.nodes:
                if node.target == ops.edge.aten.expand_copy.default and _same_shape(node.args[0], node):
                    node.replace_all_uses_with(node.args[0])
                    changed = True
            graph_module.graph.eliminate_dead_code()
            graph_module.recompile()
            return PassResult(graph_module, changed)

    return DropExpansions()


def _same_shape(before: Any, after: Any) -> bool:
    """True for two nodes of one fixed shape."""
    shapes = [tuple(node.meta["val"].shape) for node in (before, after)]
    return shapes[0] == shapes[1] and all(isinstance(size, int) for size in shapes[0])


def delegation(graph_module: torch.fx.GraphModule) -> dict[str, Any]:
    """Nodes per place, delegated parts, and which operators stay on the portable kernels."""
    from executorch.devtools.backend_debug import get_delegation_info

    info = get_delegation_info(graph_module)
    counts = {name: entry for name, entry in info.delegation_by_operator.items() if name not in NOT_A_KERNEL}
    portable = {name: entry.non_delegated for name, entry in counts.items() if entry.non_delegated}
    return {
        "placement": {
            "XnnpackBackend": sum(entry.delegated for entry in counts.values()),
            "portable": sum(portable.values()),
        },
        "delegated_parts": info.num_delegated_subgraphs,
        "portable_operators": dict(sorted(portable.items())),
        "operators": sorted(counts),
    }
