"""What PyTorch does on the same card: programs for a process of their own, and their figures."""
import json
import sys

import processes

# GPT-2 as the job has it: bf16 weights' products with fp32 masters (autocast, whose casts torch.compile takes into the
# kernels), SDPA's choice of kernels, fused AdamW, forward and backward compiled whole, PyTorch's defaults elsewhere.
# A step's seconds by CUDA's events around it, the median of STEPS; compiling and warming up is told apart.
TRAINING = """
import json, sys, time, torch
from torch import nn
from torch.nn import functional as F
L, C, H, T, V, B, STEPS = json.loads(sys.argv[1])
device = sys.argv[2]
cuda = device != "cpu"
started = time.perf_counter()
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.fc, self.out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
    def forward(self, x):
        q, k, v = (t.view(B, T, H, C // H).transpose(1, 2) for t in self.qkv(self.a(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = x + self.proj(y)
        return x + self.out(F.gelu(self.fc(self.b(x)), approximate="tanh"))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(C)
    def forward(self, x, y):
        h = self.wte(x) + self.wpe(torch.arange(T, device=x.device))
        if RESIDUALS_BF16:
            h = h.to(torch.bfloat16)
        for block in self.blocks:
            h = block(h)
        # In the type of autocast, as ours; the loss of fp32 numbers, inside of its kernel.
        logits = F.linear(self.norm(h), self.wte.weight).view(-1, V)
        return F.cross_entropy(logits, y.view(-1))
# Residuals in bf16 are ours; in fp32 they are what autocast has when nothing is said. The faster one counts.
def measure(residuals_bf16):
    global RESIDUALS_BF16
    RESIDUALS_BF16 = residuals_bf16
    torch.manual_seed(1)
    torch._dynamo.reset()
    model = Model().to(device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    compiled = torch.compile(model) if cuda else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    tokens = torch.randint(0, min(V, 256), (B, T + 1), device=device)
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    def step():
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            loss = compiled(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss
    begin = time.perf_counter()
    for _ in range(5):
        loss = step()
    if not bool(torch.isfinite(loss)):
        raise RuntimeError("the loss isn't finite")
    warm = time.perf_counter() - begin
    times = []
    if cuda:
        # The host isn't waited for between steps, as in a training.
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(STEPS + 1)]
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        torch.cuda.synchronize()
        times = [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:])]
    else:
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
    return {"step_seconds": sorted(times)[len(times) // 2], "compile_and_warm_up_seconds": round(warm, 1),
            "loss": float(loss.detach()), **({"memory_bytes": torch.cuda.max_memory_allocated()} if cuda else {})}
found = {"version": torch.__version__}
for name, narrow in [("bf16 residuals", True), ("fp32 residuals", False)]:
    # Compiling again takes as long again.
    if time.perf_counter() - started > 60:
        break
    try:
        found[name] = measure(narrow)
        measured = [value for value in found.values() if isinstance(value, dict)]
        found["step_seconds"] = min(value["step_seconds"] for value in measured if "step_seconds" in value)
    except Exception as error:
        found[name] = {"error": str(error)[-1000:]}
    print(json.dumps(found), flush=True)
    if cuda:
        torch.cuda.empty_cache()
"""

# Forward and backward of FlashAttention (the cuDNN kernels' too, where PyTorch has them), in FLOP/s.
ATTENTION = """
import json, sys, torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
B, T, H, D = json.loads(sys.argv[1])
q, k, v = (torch.randn(B, H, T, D, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
dy = torch.randn(B, H, T, D, device="cuda", dtype=torch.bfloat16)
def median(run):
    for _ in range(5):
        run()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(21)]
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:]))[10]
flops = 2.0 * B * H * T * T * D
results = {"version": torch.__version__}
for backend in ["FLASH_ATTENTION", "CUDNN_ATTENTION"]:
    try:
        with sdpa_kernel(getattr(SDPBackend, backend)):
            forward = median(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            backward = median(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
        results[backend.lower()] = {"attention forward": flops / forward, "attention backward": 2.5 * flops / backward}
    except Exception as error:
        results[backend.lower()] = {"error": (str(error).splitlines() or [""])[0]}
    print(json.dumps(results), flush=True)
"""


def run(program, *arguments, limit=180):
    """What a program for PyTorch printed last, or why it didn't."""
    done = processes.run([sys.executable, "-c", program, *arguments], limit)
    found = {}
    for line in done.output.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
    if found:
        return found if done.good else {**found, "not_finished": f"ends with {done.code}: {done.errors[-500:]}"}
    if done.code == "timeout":
        return {"error": f"not done within {limit:.0f} s"}
    return {"error": "\n".join(done.errors.strip().splitlines()[-12:])[-1500:] or f"ends with {done.code}"}
