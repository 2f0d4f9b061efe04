"""The bricks: blocks, token mixers and the selective scan."""

from mambaout.kernels.scan import parallel_scan, selective_scan
from mambaout.kernels.scan_reference import selective_scan_reference, selective_scan_step, zero_order_hold
from mambaout.layers.attention import Attention, KVCache
from mambaout.layers.attention_block import AttentionBlock
from mambaout.layers.downsample import Downsample, Stem
from mambaout.layers.drop_path import DropPath
from mambaout.layers.gated_cnn import GatedCNNBlock, IdentityBlock
from mambaout.layers.head import ClassifierHead
from mambaout.layers.mamba import MambaBlock
from mambaout.layers.ssm import SelectiveSSM
from mambaout.layers.transformer import TransformerBlock

__all__ = [
    "Attention",
    "AttentionBlock",
    "ClassifierHead",
    "Downsample",
    "DropPath",
    "GatedCNNBlock",
    "IdentityBlock",
    "KVCache",
    "MambaBlock",
    "SelectiveSSM",
    "Stem",
    "TransformerBlock",
    "parallel_scan",
    "selective_scan",
    "selective_scan_reference",
    "selective_scan_step",
    "zero_order_hold",
]
