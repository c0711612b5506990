import { NOTE_REACHED } from './mutant-switch.ts';
import { everyEnd, type MutantContext, type TestEnd } from './one-pass.ts';
import { numberSet, type NumberSet } from './number-set.ts';
import { fileOfTest, type MutantRecord } from './record.ts';

/** Somebody may be watching. */
const TESTS_TOLD = 100;

/**
 * Runs these files without any mistake and notes which ones each test would come across.
 * @returns the files' part of the record, and the tests that failed: nothing can be said with those.
 */
export async function noteReach(
  context: MutantContext,
  files: ReadonlyMap<string, string>,
): Promise<{ readonly files: MutantRecord['files']; readonly failed: readonly TestEnd[] }> {
  const running = new Map<string, string>();
  const reached = new Map<string, NumberSet>();
  const onReached = (machine: string, numbers: NumberSet): void => {
    const test = running.get(machine);
    if (test !== undefined) reached.set(test, numbers);
  };
  const chosen = { mutant: NOTE_REACHED, onReached };
  let finished = 0;
  const ends = await everyEnd(context, chosen, [...files.keys()], (event) => {
    if (event.type === 'test-started') running.set(event.machine, event.id);
    if (event.type !== 'test-finished') return;
    finished += 1;
    if (finished % TESTS_TOLD === 0) context.note(`${finished} tests`);
  });
  const noted: MutantRecord['files'] = {};
  for (const [file, hash] of files) {
    const tests = ends
      .filter(({ id, outcome }) => outcome === 'passed' && fileOfTest(id) === file)
      .map(({ id, durationMs }) => ({
        id,
        durationMs,
        reached: reached.get(id) ?? numberSet(new Uint8Array()),
      }));
    noted[file] = { hash, tests };
  }
  const failed = ends.filter(({ outcome }) => !['passed', 'skipped', 'known-failure'].includes(outcome));
  return { files: noted, failed };
}
