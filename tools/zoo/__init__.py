"""Makes the models and photographs of the ``isthmus-zoo`` distribution: ``python -m tools.zoo``.

Nothing here is needed to use the zoo.
"""
