import { join } from 'node:path';
import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Emit } from '#runner/lib/events.ts';
import type { Evidence } from '#runner/lib/failure.ts';
import type { Machine } from '#runner/machine/machine.ts';

/** A guest's memory is at most a gigabyte, less when compressed. Milliseconds. */
const DUMP_MS = 120_000;

/** The memory of a guest as a file for crash(8), beside the machine's logs. Null, with a note, when it fails. */
export async function dumpMemoryOf(machine: Machine, out: string, emit: Emit): Promise<Evidence | null> {
  const path = join(out, machine.id, 'memory.kdump');
  try {
    if (machine.dumpMemory === undefined) throw new Error('this machine cannot do it');
    await machine.dumpMemory(path, DUMP_MS);
    emit({ type: 'note', text: `the memory of ${machine.id} is in ${path}` });
    return { label: 'guest memory', path };
  } catch (error) {
    const why = cleanLine(error instanceof Error ? error.message : String(error));
    emit({ type: 'note', text: `the memory of ${machine.id} could not be saved: ${why}` });
    return null;
  }
}
