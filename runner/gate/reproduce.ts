import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';

export interface Reproduction {
  readonly test: string;
  /** Patches to apply; `undefined`: all there are. */
  readonly patches: number | undefined;
  /** Commit of the tree to start from. */
  readonly ref: string | undefined;
}

/** Which test on which kernel: the one that the verdict blames, unless another is asked for. Pure. */
export function whatToReproduce(report: Report, wanted: string, patch: number | undefined): Reproduction {
  const { gate } = report;
  const ids = [
    ...new Set([...(gate?.verdicts ?? []).map(({ test }) => test), ...report.tests.map(({ id }) => id)]),
  ];
  const exact = ids.filter((id) => id === wanted);
  const found = exact.length > 0 ? exact : ids.filter((id) => id.includes(wanted));
  const [test] = found;
  if (test === undefined || found.length > 1) {
    const what = found.length > 1 ? `names ${found.length} tests of the report` : 'is no test of the report';
    throw new Failure('E_NO_TESTS', 'user', `${JSON.stringify(wanted)} ${what}`, {
      hint: found.length > 1 ? `one of them is ${JSON.stringify(test)}` : 'name it as the report does',
    });
  }
  if (gate === null) return { test, patches: patch, ref: undefined };
  const count = gate.patches.length;
  if (patch !== undefined && patch > count) {
    throw new Failure('E_USAGE', 'user', `there is no patch ${patch}, the series has ${count}`);
  }
  const blamed = gate.verdicts.find((verdict) => verdict.test === test && verdict.patch !== null)?.patch
    ?.last;
  return { test, patches: patch ?? blamed ?? count, ref: gate.ref ?? undefined };
}
