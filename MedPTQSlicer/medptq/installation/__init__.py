"""What a Python has, told by itself: the standard library is all that this room needs.

``python -m medptq.installation`` prints one line of JSON (:func:`medptq.installation.facts.facts`)
in any Python from 3.8 on, with nothing installed. It says what is there and judges nothing: whether
that is enough is for those to say who know what they need.

``python -m medptq.installation.download_sizes FILE`` says how large downloads are.
"""
