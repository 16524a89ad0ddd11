"""The forward path for NVIDIA GPUs: captured graphs over Triton kernels."""
