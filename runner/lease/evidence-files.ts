import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Evidence } from '#runner/lib/failure.ts';

/** A directory name for a test: readable, safe, and different for different tests. */
export function slugOf(testId: string): string {
  const readable = testId
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 80);
  return `${readable}-${createHash('sha256').update(testId).digest('hex').slice(0, 8)}`;
}

export interface TestLogs {
  readonly console: readonly string[];
  readonly kernelLog: readonly string[];
  readonly requests: readonly string[];
  /** What the machine showed of itself when it could not be cleaned. */
  readonly machine?: readonly string[] | undefined;
}

const FILES = [
  { label: 'console', name: 'console.log', of: (logs: TestLogs) => logs.console },
  { label: 'kernel log', name: 'kernel.log', of: (logs: TestLogs) => logs.kernelLog },
  { label: 'FUSE requests', name: 'requests.jsonl', of: (logs: TestLogs) => logs.requests },
  { label: 'machine', name: 'machine.txt', of: (logs: TestLogs) => logs.machine ?? [] },
] as const;

/** Writes `<out>/tests/<slug>/…`; an empty log gets no file. */
export async function writeEvidence(
  out: string,
  testId: string,
  logs: TestLogs,
): Promise<readonly Evidence[]> {
  const dir = join(out, 'tests', slugOf(testId));
  const evidence: Evidence[] = [];
  for (const { label, name, of } of FILES) {
    const lines = of(logs);
    if (lines.length === 0) continue;
    await mkdir(dir, { recursive: true });
    const path = join(dir, name);
    await writeFile(path, `${lines.join('\n')}\n`);
    evidence.push({ label, path });
  }
  return evidence;
}
