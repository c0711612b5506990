import { Failure } from '#runner/lib/failure.ts';
import { batchesFor, mostFor, type Reach } from './choose-tests.ts';
import type { Mutant } from './mutants.ts';
import { hasNumber } from './number-set.ts';
import { untilNoticed, type MutantContext } from './one-pass.ts';
import { fileOfTest, type MutantRecord, type MutantResult } from './record.ts';

/** For all tests of one mistake together. A test that hangs has its own deadline. Milliseconds. */
const LIMIT_MS = 10 * 60_000;

/** Asks the tests that come across this mistake, until one notices. */
export async function tryMutant(
  context: MutantContext,
  mutant: Mutant,
  record: MutantRecord,
): Promise<MutantResult> {
  const began = performance.now();
  const { number } = mutant;
  const earlier = record.results[number]?.tried ?? {};
  const tests = Object.entries(record.files)
    .filter(([file, { hash }]) => earlier[file] !== hash)
    .flatMap(([, file]): readonly Reach[] => file.tests);
  const before = record.results[number]?.by ?? null;
  const known = [...new Set([...(before === null ? [] : [before]), ...mutant.noticedBy])];
  const ended = (rest: Pick<MutantResult, 'outcome' | 'by' | 'message' | 'tried'>): MutantResult => ({
    ...rest,
    durationMs: Math.round(performance.now() - began),
  });
  const batches = batchesFor(number, tests, known, mostFor(mutant, context.most));
  const whole = batches.flat().length === tests.filter(({ reached }) => hasNumber(reached, number)).length;
  const limit = AbortSignal.timeout(LIMIT_MS);
  const limited = { ...context, signal: AbortSignal.any([context.signal, limit]) };
  try {
    for (const batch of batches) {
      const notice = await untilNoticed(limited, { mutant: number }, batch);
      if (notice === null) continue;
      return ended({ outcome: 'noticed', by: notice.test, message: notice.message, tried: {} });
    }
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof Failure) && !limit.aborted) throw error;
    const message = error instanceof Error ? error.message : 'no verdict';
    return ended({ outcome: 'no-verdict', by: null, message, tried: {} });
  }
  const reachedAtAll = Object.values(record.files).some(({ tests: all }) =>
    all.some(({ reached }) => hasNumber(reached, number)),
  );
  // Where only some were asked, the others have not been tried, and no file is done with.
  const files = whole ? Object.entries(record.files) : [];
  const tried = Object.fromEntries(files.map(([file, { hash }]) => [file, hash]));
  const outcome = reachedAtAll ? 'survived' : 'unreached';
  return ended({ outcome, by: null, message: null, tried });
}

/** Whether the result of an earlier call still holds: who noticed is as it was. */
export function stillHolds(result: MutantResult | undefined, hashes: MutantRecord['files']): boolean {
  if (result?.outcome !== 'noticed') return false;
  return (
    result.by === null || hashes[fileOfTest(result.by)]?.tests.some(({ id }) => id === result.by) === true
  );
}
