"""The evaluation of search on judged queries: how well modes, embedding models and re-rankers find what is known to be relevant.

From below: `judgements` reads a file, `systems` runs the searches, `measures` computes figures with ir-measures and confidence
intervals with scipy, `report` is the result with its JSON and drawing. Needs the extra `everindex[evaluate]`; reads only.
"""
