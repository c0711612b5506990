import { createLogUpdate } from 'log-update';
import type { EventSink, RunEvent, Stage } from '#runner/lib/events.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { formatDuration } from '../format.ts';
import { describeEvent, progressText, stageLine } from './lines.ts';

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const REDRAW_MS = 120;

interface Running {
  readonly title: string;
  readonly log: string | undefined;
  readonly since: number;
  progress: string;
}

/**
 * For a terminal: what happened scrolls by, and below it stands what is going on now and for how long.
 * Disposing leaves the terminal as an ordinary one.
 */
export class LiveReporter implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #rerun: string;
  readonly #window: ReturnType<typeof createLogUpdate>;
  readonly #stages = new Map<Stage, Running>();
  /** Test id → when it got its machine. */
  readonly #tests = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #counts = { passed: 0, failed: 0, other: 0 };
  #frame = 0;

  constructor(stream: NodeJS.WriteStream, rerun: string) {
    this.#stream = stream;
    this.#rerun = rerun;
    this.#window = createLogUpdate(stream);
    this.#timer = setInterval(() => {
      this.#draw();
    }, REDRAW_MS);
    this.#timer.unref();
  }

  readonly sink: EventSink = (event) => {
    this.#note(event);
    const text = event.type === 'stage-started' ? undefined : describeEvent(event, this.#rerun);
    if (text === undefined) return;
    this.#window.clear();
    this.#stream.write(`${text}\n`);
    this.#draw();
  };

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#window.clear();
    this.#window.done();
  }

  #note(event: RunEvent): void {
    switch (event.type) {
      case 'stage-started': {
        const { title, log } = event;
        this.#stages.set(event.stage, { title, log, since: performance.now(), progress: '' });
        return;
      }
      case 'stage-progress': {
        const stage = this.#stages.get(event.stage);
        if (stage !== undefined) stage.progress = progressText(event);
        return;
      }
      case 'stage-finished':
      case 'stage-failed':
        this.#stages.delete(event.stage);
        return;
      case 'test-started':
        this.#tests.set(event.id, performance.now());
        return;
      case 'test-finished':
        this.#tests.delete(event.id);
        if (event.outcome === 'passed') this.#counts.passed += 1;
        else if (event.outcome === 'failed') this.#counts.failed += 1;
        else this.#counts.other += 1;
        return;
      default:
    }
  }

  #draw(): void {
    this.#frame = (this.#frame + 1) % FRAMES.length;
    const mark = FRAMES[this.#frame] ?? '';
    const now = performance.now();
    const stages = [...this.#stages].map(([stage, running]) => {
      const log = running.log === undefined || stage === 'suites' ? '' : `  ${running.log}`;
      const what = stage === 'suites' ? this.#suites() : cleanLine(running.title, 60);
      const progress = running.progress === '' ? '' : `  ${running.progress}`;
      return `${mark} ${stageLine(stage, `${what}${progress}  ${formatDuration(now - running.since)}${log}`)}`;
    });
    const tests = [...this.#tests].map(
      ([id, since]) => `  ${cleanLine(id, 100)}  ${formatDuration(now - since)}`,
    );
    this.#window([...stages, ...tests].join('\n'));
  }

  #suites(): string {
    const { passed, failed, other } = this.#counts;
    return `${passed} passed, ${failed} failed${other === 0 ? '' : `, ${other} other`}`;
  }
}
