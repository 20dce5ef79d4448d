// A relay's link: its tunnel and every TCP connection that it has, dropped in silence on their way in, to either side. Only in a
// network of our own, which `cargo xtask bench failover` makes (loadtest/benches/failover/link.rs does the same).

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const TABLE = "inet tandem_link";

/** Why no link can be cut here; null: one can. */
export function noLink(): string | null {
  return process.env["TANDEM_BENCH_NETNS"] === undefined ? "no network namespace of our own" : null;
}

function nft(text: string): void {
  execFileSync("nft", ["-f", "-"], { input: text, stdio: ["pipe", "ignore", "pipe"] });
}

export function cut(pid: number): void {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? []),
  );
  const rules = ["udp", "tcp"].flatMap((protocol) => {
    const lines = readFileSync(`/proc/${pid}/net/${protocol}`, "utf8").split("\n").map((line) => line.trim().split(/\s+/));
    const ports = lines.filter((line) => inodes.has(line[9] ?? "")).map((line) => parseInt(line[1]?.split(":")[1] ?? "", 16));
    if (ports.length === 0) throw new Error(`it has no ${protocol} socket`);
    return ["sport", "dport"].map((way) => `${protocol} ${way} { ${[...new Set(ports)].join(", ")} } drop`);
  });
  nft(`table ${TABLE} {\n chain in {\n type filter hook input priority filter; policy accept;\n ${rules.join("\n ")}\n }\n}\n`);
}

export function mend(): void {
  nft(`delete table ${TABLE}\n`);
}
