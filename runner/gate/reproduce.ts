import { exactMatch } from '#runner/ava/test-id.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';
import { rerunOptions } from '#runner/report/rerun.ts';
import type { GateResult } from './gate-schema.ts';
import { BOOT } from './sample.ts';

export interface Reproduction {
  readonly test: string;
  /** Patches to apply; `undefined`: all there are. */
  readonly patches: number | undefined;
  /** Commit of the tree to start from. */
  readonly ref: string | undefined;
  /** Another series than the report's: the version that it was compared with. */
  readonly series?: string;
}

/** Which test on which kernel: the one that the verdict blames, unless another is asked for. Pure. */
export function whatToReproduce(report: Report, wanted: string, patch: number | undefined): Reproduction {
  const { gate } = report;
  const test = theTest(report, wanted);
  if (gate === null) return { test, patches: patch, ref: undefined };
  const count = gate.patches.length;
  if (patch !== undefined && patch > count) {
    throw new Failure('E_USAGE', 'user', `there is no patch ${patch}, the series has ${count}`);
  }
  const blamed = gate.verdicts.find((verdict) => verdict.test === test && verdict.patch !== null)?.patch
    ?.last;
  return { test, ...kernelOf(patch ?? blamed ?? count, gate) };
}

/** The options of `fusegate run` that do it: those of the report, with another kernel and this test alone. Pure. */
export function optionsToReproduce(
  { rerun }: Pick<Report, 'rerun'>,
  { test, patches, ref, series }: Reproduction,
): Readonly<Record<string, unknown>> {
  const same = rerunOptions(rerun);
  return {
    ...same,
    ...(series === undefined ? {} : { series }),
    ...(patches === undefined ? {} : { patches }),
    // A kernel that is not built from a tree has no commits.
    ...(ref === undefined || same['tree'] === undefined ? {} : { base: ref }),
    ...(test === BOOT ? {} : { match: [exactId(test)] }),
    jobs: 1,
  };
}

/** The title as AVA's pattern language would have to say it to mean just this one. */
function exactId(id: string): string {
  const colon = id.indexOf(': ');
  return `${id.slice(0, colon)}: ${exactMatch(id.slice(colon + 2))}`;
}

/** @throws Failure E_NO_TESTS (user) */
function theTest({ gate, tests }: Report, wanted: string): string {
  const ids = [...new Set([...(gate?.verdicts ?? []).map(({ test }) => test), ...tests.map(({ id }) => id)])];
  const exact = ids.filter((id) => id === wanted);
  const found = exact.length > 0 ? exact : ids.filter((id) => id.includes(wanted));
  const [test] = found;
  if (test !== undefined && found.length === 1) return test;
  const what = found.length > 1 ? `names ${found.length} tests of the report` : 'is no test of the report';
  throw new Failure('E_NO_TESTS', 'user', `${JSON.stringify(wanted)} ${what}`, {
    hint: found.length > 1 ? `one of them is ${JSON.stringify(test)}` : 'name it as the report does',
  });
}

/** Of two versions each is taken whole, and 0 is the earlier one. */
function kernelOf(patches: number, { against, ref }: GateResult): Omit<Reproduction, 'test'> {
  if (against === null) return { patches, ref: ref ?? undefined };
  return patches === 0
    ? { patches: undefined, ref: against.ref ?? undefined, series: against.spec }
    : { patches: undefined, ref: ref ?? undefined };
}
