import time
from pathlib import Path
def test_x(tiny_model: Path, b4g, tmp_path) -> None:
    t=time.time()
    r = b4g("bench","--preset","tiny","--task","style","--model",tiny_model,"--runs",tmp_path)
    print(r.out, r.err, time.time()-t)
    import subprocess
    print(subprocess.run(f"find {tmp_path} -type f | xargs ls -la; cat {tmp_path}/*/*.log", shell=True, capture_output=True, text=True).stdout)
    from b4g.models.load import load_model
    from b4g.generate.local import LocalGenerator
    from b4g.chat import user
    m = load_model(str(tiny_model), dtype="float32")
    for c in LocalGenerator(m)([user("hello"), user("what is it"), user("x"*40)], 30): print(repr(c))
    assert 0
