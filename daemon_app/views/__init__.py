"""Pages. They ask the models, show the answer, and hold no rule."""
