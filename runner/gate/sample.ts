import type { Evidence } from '#runner/lib/failure.ts';

/** The test that every run of a kernel is: it boots, and the daemon answers. */
export const BOOT = 'boot';

/** `lost`: no verdict, the machine or the emulator was to blame; never counted for or against the kernel. */
export type Seen = 'pass' | 'fail' | 'skip' | 'lost';

/** A complaint of the guest's kernel during a test. */
export interface SampleFault {
  readonly kind: string;
  readonly title: string;
  readonly fingerprint: string;
}

/** What one run of one test showed. */
export interface Sample {
  /** `area/file: title`, or `boot`. */
  readonly test: string;
  readonly seen: Seen;
  /** The outcome in the words of the report. */
  readonly outcome: 'passed' | 'failed' | 'skipped' | 'crashed' | 'timed-out' | 'not-run';
  readonly message: string | null;
  readonly durationMs: number;
  readonly faults: readonly SampleFault[];
  readonly evidence: readonly Evidence[];
  /** Of `boot` alone: the machine went on from a saved one. All copies together are the one boot that was saved. */
  readonly copy?: boolean | undefined;
}

/** What was asked of a kernel: everything selected, or these tests; none of them is a boot alone. */
export type Wanted = 'all' | readonly string[];

/** One thing that was done: a kernel was booted, and tests ran on it, some of them several times. */
export interface Visit {
  /** Index of the kernel, see Stop. */
  readonly stop: number;
  readonly wanted: Wanted;
  readonly samples: readonly Sample[];
}
