"""Reinforcement learning of flow policies in imagination: FA-GRPO with FlowScale."""
