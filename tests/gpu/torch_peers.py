"""What PyTorch does on the same card: programs for a process of their own, and their figures."""
import json
import subprocess
import sys

# GPT-2 as the job has it, with torch.compile: the median of a step's seconds.
TRAINING = """
import json, sys, time, torch
from torch import nn
from torch.nn import functional as F
L, C, H, T, V, B, STEPS = json.loads(sys.argv[1])
device = sys.argv[2]
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
        for block in self.blocks:
            h = block(h)
        return F.cross_entropy((self.norm(h) @ self.wte.weight.T).view(-1, V), y.view(-1))
def wait():
    if device != "cpu":
        torch.cuda.synchronize()
model = Model().to(device)
compiled = torch.compile(model) if device != "cpu" else model
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **({"fused": True} if device != "cpu" else {}))
tokens = torch.randint(0, min(V, 256), (B, T + 1), device=device)
times = []
for step in range(STEPS + 5):
    wait(); begin = time.perf_counter()
    with torch.autocast(device.split(":")[0], torch.bfloat16):
        loss = compiled(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); optimizer.zero_grad(set_to_none=True)
    wait(); times.append(time.perf_counter() - begin)
print(json.dumps({"version": torch.__version__, "step_seconds": sorted(times[5:])[STEPS // 2]}))
"""

# Forward and backward of FlashAttention (the cuDNN kernels' too, where PyTorch has them), in FLOP/s.
ATTENTION = """
import json, sys, time, torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
B, T, H, D = json.loads(sys.argv[1])
q, k, v = (torch.randn(B, H, T, D, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
dy = torch.randn(B, H, T, D, device="cuda", dtype=torch.bfloat16)
def median(run):
    times = []
    for i in range(8):
        torch.cuda.synchronize(); begin = time.perf_counter()
        for _ in range(20):
            run()
        torch.cuda.synchronize(); times.append((time.perf_counter() - begin) / 20)
    return sorted(times[3:])[2]
flops = 2.0 * B * H * T * T * D
results = {"version": torch.__version__}
for backend in ["FLASH_ATTENTION", "CUDNN_ATTENTION"]:
    try:
        with sdpa_kernel(getattr(SDPBackend, backend)):
            forward = median(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            backward = median(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
        results[backend.lower()] = {"attention forward": flops / forward, "attention backward": 2.5 * flops / backward}
    except (AttributeError, RuntimeError) as error:
        results[backend.lower()] = {"error": str(error).splitlines()[0]}
print(json.dumps(results))
"""


def run(program, *arguments, limit=900):
    """What a program for PyTorch prints, or why it didn't."""
    try:
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False,
                              timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {limit} s"}
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["no PyTorch"])[-1]}
    return json.loads(done.stdout)
