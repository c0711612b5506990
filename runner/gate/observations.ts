import type { Counts } from './odds.ts';
import type { Sample, SampleFault, Visit } from './sample.ts';
import { BOOT } from './sample.ts';

/**
 * What is compared between kernels: a test, or one complaint of the kernel during a test. The latter only where
 * the test itself cannot tell, because it fails on the base too, or passes in spite of it.
 */
export interface Subject {
  readonly id: string;
  readonly test: string;
  readonly fault: SampleFault | null;
}

/** `absent`: the kernel has nothing to test; it was skipped, or failed for want of the whole feature. */
export type State = 'good' | 'bad' | 'absent' | 'unknown';

/** Everything that was seen so far, by kernel and test. Immutable. */
export class Observations {
  readonly #samples = new Map<number, Map<string, Sample[]>>();
  readonly #full = new Set<number>();
  readonly #probe: string | undefined;

  /** `probe`: the test that fails on a kernel that has no passthrough at all. */
  constructor(visits: readonly Visit[], probe?: string) {
    this.#probe = probe;
    for (const { stop, wanted, samples } of visits) {
      if (wanted === 'all') this.#full.add(stop);
      const tests = this.#samples.get(stop) ?? new Map<string, Sample[]>();
      this.#samples.set(stop, tests);
      for (const sample of samples) tests.set(sample.test, [...(tests.get(sample.test) ?? []), sample]);
    }
  }

  /** All selected tests were wanted there. */
  isFull(stop: number): boolean {
    return this.#full.has(stop);
  }

  visited(stop: number): boolean {
    return this.#samples.has(stop);
  }

  tests(): readonly string[] {
    return [...new Set([...this.#samples.values()].flatMap((tests) => [...tests.keys()]))];
  }

  of(stop: number, test: string): readonly Sample[] {
    return this.#samples.get(stop)?.get(test) ?? [];
  }

  lost(stop: number, test: string): number {
    return this.of(stop, test).filter((sample) => sample.seen === 'lost').length;
  }

  subjects(): readonly Subject[] {
    return this.tests().flatMap((test) => [
      { id: test, test, fault: null },
      ...this.#faultsOf(test).map((fault) => ({ id: `${test} [${fault.fingerprint}]`, test, fault })),
    ]);
  }

  state(stop: number, subject: Subject): State {
    const known = this.#known(stop, subject.test);
    if (known.length === 0) return 'unknown';
    if (known.some((sample) => isBad(sample, subject))) {
      return this.#hasNothing(stop, subject) ? 'absent' : 'bad';
    }
    return known.every((sample) => sample.seen === 'skip') ? 'absent' : 'good';
  }

  /** `fresh` leaves out the first sample, which may be the one that drew the attention. */
  counts(stop: number, subject: Subject, which: 'all' | 'fresh' = 'all'): Counts {
    const known = this.#known(stop, subject.test).filter((sample) => sample.seen !== 'skip');
    // Machines that went on from a saved one did not boot again.
    const copy = known.findIndex((sample) => sample.copy === true);
    const counted = known
      .filter((sample, at) => sample.copy !== true || at === copy)
      .slice(which === 'fresh' ? 1 : 0);
    return {
      passes: counted.filter((sample) => !isBad(sample, subject)).length,
      runs: counted.length,
    };
  }

  /** The kernel said something during the test. */
  complained(stop: number, test: string): boolean {
    return this.#known(stop, test).some(({ faults }) => faults.length > 0);
  }

  /** The probe was asked on this kernel and failed for want of passthrough. */
  lacksFeature(stop: number): boolean {
    const known = this.#known(stop, this.#probe ?? '');
    return known.length > 0 && known.every(({ seen, faults }) => seen === 'fail' && faults.length === 0);
  }

  /** Both outcomes were seen on one kernel. */
  isMixed(stop: number, subject: Subject): boolean {
    const { passes, runs } = this.counts(stop, subject);
    return passes > 0 && passes < runs;
  }

  #known(stop: number, test: string): readonly Sample[] {
    return this.of(stop, test).filter((sample) => sample.seen !== 'lost');
  }

  /** Complaints that the test's own outcome does not tell from what the base does. */
  #faultsOf(test: string): readonly SampleFault[] {
    const baseFails = this.#known(0, test).some((sample) => sample.seen === 'fail');
    const found = new Map<string, SampleFault>();
    for (const tests of this.#samples.values()) {
      for (const sample of tests.get(test) ?? []) {
        if (!baseFails && sample.seen === 'fail') continue;
        for (const fault of sample.faults) found.set(fault.fingerprint, fault);
      }
    }
    return [...found.values()];
  }

  /** The base has no passthrough, nor has this kernel: a failure here says nothing, unless the kernel complained. */
  #hasNothing(stop: number, subject: Subject): boolean {
    if (this.#probe === undefined || subject.fault !== null || subject.test === BOOT) return false;
    return !this.complained(stop, subject.test) && this.lacksFeature(0) && this.lacksFeature(stop);
  }
}

function isBad(sample: Sample, { fault }: Subject): boolean {
  if (fault === null) return sample.seen === 'fail';
  return sample.faults.some(({ fingerprint }) => fingerprint === fault.fingerprint);
}
