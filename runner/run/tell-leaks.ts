import type { Guest } from '#runner/guest/guest.ts';
import { scanForLeaks } from '#runner/guest/leak-scan.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';
import type { PartContext } from './parts.ts';

/** Tells what memory the tests of a file have leaked. A machine that cannot be asked any more is a note. */
export async function tellLeaks(guest: Guest, file: string, { emit, signal }: PartContext): Promise<void> {
  const { id: machine, consolePath } = guest.machine;
  try {
    for (const { kind, title, fingerprint } of recogniseFaults(await scanForLeaks(guest, signal))) {
      const evidence = [{ label: 'whole console', path: consolePath }];
      const whole = cleanLine(`${title} after the tests of ${file}: ${fingerprint}`);
      emit({ type: 'kernel-fault', machine, kind, title: whole, fingerprint, test: null, evidence });
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    emit({ type: 'note', text: `${machine} was not searched for leaks: ${error.message}` });
  }
}
