import { z } from 'zod';
import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Finding } from './messages.ts';

/**
 * The answer of the agent's `reset`, as much of it as the broker needs. Read defensively: it comes from the
 * guest. `.loose()` everywhere, so that the daemon may say more.
 */
const named = z.union([z.string(), z.record(z.string(), z.unknown())]);

export const resetReportSchema = z.looseObject({
  leftMounts: z.array(named).catch([]),
  leftProcesses: z.array(named).catch([]),
  leftConnections: z.array(z.number()).catch([]),
  leftDevices: z.array(z.string()).catch([]),
  backingBusy: z.union([z.boolean(), z.string()]).nullable().catch(null),
  taint: z.union([z.number(), z.looseObject({ mask: z.number() }).transform(({ mask }) => mask)]).catch(0),
  kernelLog: z
    .array(
      z.union([
        z.string(),
        z.looseObject({ text: z.string(), timeUs: z.number().optional(), level: z.number().optional() }),
      ]),
    )
    .catch([]),
  requestLogs: z
    .array(z.looseObject({ server: z.unknown(), records: z.array(z.unknown()).catch([]) }))
    .catch([]),
  stuck: z.array(z.string()).catch([]),
  leftObjects: z.array(z.looseObject({ name: z.string(), before: z.number(), now: z.number() })).catch([]),
});

export type ResetReport = z.infer<typeof resetReportSchema>;

/** Things that the test left behind, each a sentence. The kernel log is judged elsewhere. Pure. */
export function findLeftovers(report: ResetReport, taintBefore: number): readonly Finding[] {
  const findings: Finding[] = [];
  const add = (kind: Finding['kind'], message: string): void => {
    findings.push({ kind, message: cleanLine(message) });
  };
  for (const mount of report.leftMounts) add('left-mount', `a mount was left behind: ${describe(mount)}`);
  for (const process of report.leftProcesses) {
    add('left-process', `a process was left behind: ${describe(process)}`);
  }
  for (const connection of report.leftConnections) {
    add('left-mount', `FUSE connection ${connection} did not go away`);
  }
  for (const device of report.leftDevices) {
    add('left-device', `the spare disk was left in use: ${device}`);
  }
  const busy = report.backingBusy;
  if (busy === true || (typeof busy === 'string' && busy !== '')) {
    add(
      'backing-busy',
      `the backing filesystem cannot be unmounted: ${busy === true ? 'something still holds it' : busy}`,
    );
  }
  const added = report.taint & ~taintBefore;
  if (added !== 0) add('taint', `the kernel became tainted: ${taintFlags(added)}`);
  for (const where of report.stuck) add('left-process', `a process cannot be killed: ${where}`);
  return findings;
}

/**
 * Why the machine had better not be used again although nothing is proved against the test: a sentence, or none.
 * Pure.
 */
export function reasonToReplace({ leftObjects }: ResetReport): string | null {
  const grown = leftObjects.map(({ name, before, now }) => `${name}: ${now}, ${before} before`);
  return grown.length === 0 ? null : cleanLine(`kernel objects were left behind (${grown.join('; ')})`);
}

/** The kernel log as lines like those of dmesg. */
export function kernelLogLines(report: ResetReport): readonly string[] {
  return report.kernelLog.map((record) => {
    if (typeof record === 'string') return record;
    return record.timeUs === undefined
      ? record.text
      : `[${(record.timeUs / 1e6).toFixed(6).padStart(12)}] ${record.text}`;
  });
}

/** One JSON object per request, with the server that received it. */
export function requestLines(report: ResetReport): readonly string[] {
  return report.requestLogs.flatMap(({ server, records }) =>
    records.map((record) => JSON.stringify({ server, ...(record as object) })),
  );
}

/** Letters of Documentation/admin-guide/tainted-kernels.rst, bit 0 first. */
const TAINT_LETTERS = 'PFSRMBUDAWCIOELKXTNJ';

function taintFlags(mask: number): string {
  const letters = Array.from(TAINT_LETTERS).filter((_letter, bit) => (mask & (1 << bit)) !== 0);
  return `${letters.join('')} (${mask})`;
}

function describe(value: string | Record<string, unknown>): string {
  if (typeof value === 'string') return value;
  return Object.entries(value)
    .map(([key, said]) => `${key} ${typeof said === 'string' ? said : JSON.stringify(said)}`)
    .join(', ');
}
