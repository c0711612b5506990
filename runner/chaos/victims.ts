import { commandLineOf, processesLabelled, type ProcessIdentity } from '#runner/lib/process-table.ts';

export type Role = 'runner' | 'reaper' | 'bundler' | 'AVA' | 'test process' | 'virtme-ng' | 'QEMU' | 'other';

/** Pure: what a process of a run is, from its command line. */
export function roleOf(commandLine: readonly string[]): Role {
  const [program = ''] = commandLine;
  const has = (part: string): boolean => commandLine.some((word) => word.includes(part));
  if (program.includes('qemu-system')) return 'QEMU';
  if (program.endsWith('/esbuild')) return 'bundler';
  if (has('runner/cli/fusegate.js')) return 'runner';
  if (has('lib/reaper-process.ts')) return 'reaper';
  if (has('ava/entrypoints/cli.js')) return 'AVA';
  if (has('ava/lib/worker/')) return 'test process';
  if (has('/vng') || has('virtme-run')) return 'virtme-ng';
  return 'other';
}

export interface Victim {
  readonly identity: ProcessIdentity;
  readonly role: Role;
}

/** All processes that were started with `name=value` in their environment. */
export async function findVictims(name: string, value: string): Promise<readonly Victim[]> {
  const found = await processesLabelled(name, value);
  return Promise.all(
    found.map(async (identity) => ({ identity, role: roleOf(await commandLineOf(identity.pid)) })),
  );
}
