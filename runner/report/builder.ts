import type { KernelImage } from '#kernel/kernel-image.ts';
import type { EventSink, Stage, TimedEvent } from '#runner/lib/events.ts';
import type { Failure } from '#runner/lib/failure.ts';
import { cleanLine, cleanText, neutraliseCommands } from '#runner/lib/clean-text.ts';
import { decideVerdict } from '#runner/verdict/classify.ts';
import type { Report, ReportFailure, ReportFault, ReportTest } from './report.ts';
import { countTests } from './report.ts';
import { Timeline } from './timeline.ts';

/** Collects the report from what happens in a run. One kernel per run; a gate joins several reports. */
export class ReportBuilder {
  readonly #startedAt = new Date();
  readonly #clock = performance.now();
  readonly #stages = new Map<Stage, number>();
  readonly #tests = new Map<string, ReportTest>();
  readonly #faults: ReportFault[] = [];
  readonly #notes: string[] = [];
  readonly #timeline = new Timeline();
  readonly #profile: string;
  readonly #rerun: string;
  #kernel: KernelImage | undefined;
  #accelerator: 'kvm' | 'tcg' | null = null;

  /** `rerun`: see the report's field. */
  constructor(profile: string, rerun: string) {
    this.#profile = profile;
    this.#rerun = rerun;
  }

  readonly sink: EventSink = (event) => {
    this.#timeline.sink(event);
    switch (event.type) {
      case 'stage-finished':
      case 'stage-failed':
        if (!this.#stages.has(event.stage)) this.#stages.set(event.stage, event.durationMs);
        return;
      case 'test-finished':
        this.#test(event);
        return;
      case 'kernel-fault':
        this.#fault(event);
        return;
      case 'note':
        this.#notes.push(event.text);
        return;
      default:
    }
  };

  kernel(image: KernelImage): void {
    this.#kernel = image;
  }

  accelerator(accelerator: 'kvm' | 'tcg'): void {
    this.#accelerator = accelerator;
  }

  build(failure: Failure | null): Report {
    const tests = [...this.#tests.values()].sort(byFile);
    const faults = this.#faults.toSorted(byTest(tests));
    const stated = failure === null ? null : stateFailure(failure);
    return {
      schema: 1,
      verdict: decideVerdict({ tests, faults, failure: stated }),
      kernels: this.#kernels(),
      tests,
      faults,
      timings: this.#timings(),
      counts: countTests(tests),
      gate: null,
      failure: stated,
      startedAt: this.#startedAt.toISOString(),
      profile: this.#profile,
      rerun: this.#rerun,
      notes: this.#notes,
      timeline: this.#timeline.spans,
    };
  }

  get #kernelId(): string | null {
    return this.#kernel === undefined ? null : kernelId(this.#kernel);
  }

  #kernels(): Report['kernels'] {
    if (this.#kernel === undefined) return [];
    const { profile, release, role, series, patch, imageSha256 } = this.#kernel;
    const id = kernelId(this.#kernel);
    return [{ id, profile, release, role, series, patch, imageSha256, accelerator: this.#accelerator }];
  }

  #timings(): Report['timings'] {
    const of = (stage: Stage): number | null => this.#stages.get(stage) ?? null;
    return {
      sourceMs: of('source'),
      applyMs: of('apply'),
      configMs: of('config'),
      buildMs: of('build'),
      imageMs: of('image'),
      bootMs: of('boot'),
      deployMs: of('deploy'),
      suitesMs: of('suites'),
      totalMs: Math.round(performance.now() - this.#clock),
    };
  }

  #test(event: TimedEvent & { type: 'test-finished' }): void {
    const { id, area, title, outcome, durationMs, message, evidence } = event;
    this.#tests.set(id, {
      id,
      area,
      title,
      kernel: this.#kernelId,
      outcome,
      durationMs,
      message,
      evidence: [...evidence],
    });
  }

  #fault(event: TimedEvent & { type: 'kernel-fault' }): void {
    const { kind, title, fingerprint, test, evidence } = event;
    this.#faults.push({
      kernel: this.#kernelId,
      kind,
      title,
      fingerprint,
      test,
      evidence: [...evidence],
    });
  }
}

/** `mainline-6.12/base`, `v12-6.1/patched`, `v12-6.1/patched-3` for a kernel with the first three patches. */
export function kernelId(kernel: Pick<KernelImage, 'profile' | 'role' | 'patch'>): string {
  return `${kernel.profile}/${kernel.role}${kernel.patch === null ? '' : `-${kernel.patch.index}`}`;
}

export function stateFailure(failure: Failure): ReportFailure {
  return {
    code: failure.code,
    blame: failure.blame,
    message: neutraliseCommands(cleanText(failure.message)),
    hint: failure.hint ?? null,
    evidence: [...failure.evidence],
    excerpt: failure.excerpt.map((line) => neutraliseCommands(cleanLine(line))),
  };
}

/** Files by their names, their tests as they came: the same order however many machines there were. */
function byFile(a: ReportTest, b: ReportTest): number {
  const [left, right] = [fileOf(a.id), fileOf(b.id)];
  return left < right ? -1 : left > right ? 1 : 0;
}

function fileOf(id: string): string {
  return id.split(': ', 1)[0] ?? id;
}

/** Faults in the order of their tests; those of no test come last. */
function byTest(tests: readonly ReportTest[]): (a: ReportFault, b: ReportFault) => number {
  const positions = new Map(tests.map(({ id }, position) => [id, position]));
  const of = ({ test }: ReportFault): number => positions.get(test ?? '') ?? tests.length;
  return (a, b) => of(a) - of(b);
}
