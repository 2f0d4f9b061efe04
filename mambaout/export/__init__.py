"""Models for use outside PyTorch: ONNX files, and the graphs that run in this book's page.

Needs the extra `mambaout[export]`.
"""

from .live import LiveModel, live_model
from .onnx_file import Exported, export_onnx

__all__ = ["Exported", "LiveModel", "export_onnx", "live_model"]
