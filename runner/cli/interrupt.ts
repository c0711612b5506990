import { ExitCode, Failure } from '#runner/lib/failure.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A terminal may send a signal to the whole group and a wrapper may pass it on: one wish, said twice. */
const SAME_WISH_MS = 1000;

export interface Interrupt extends Disposable {
  /** Aborted by the first signal, with a Failure. */
  readonly signal: AbortSignal;
}

/**
 * The first signal ends the run in order; another one, later, ends the program at once. What is left then is
 * removed by the reaper of the run.
 */
export function listenForInterrupt(tell: (text: string) => void): Interrupt {
  const controller = new AbortController();
  let first: number | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    const now = performance.now();
    if (first === undefined) {
      first = now;
      tell(`fusegate: ${name}: stopping; once more to stop at once\n`);
      controller.abort(new Failure('E_INTERRUPTED', 'interrupted', `interrupted by ${name}`));
    } else if (now - first > SAME_WISH_MS) {
      process.exit(ExitCode.interrupted);
    }
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of SIGNALS) process.off(name, onSignal);
    },
  };
}
