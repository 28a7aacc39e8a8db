"""The OpenChat suite: raw chats in, a served and judged chat model out."""

__version__ = "0.1.0"
