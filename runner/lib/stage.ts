import { Failure } from './failure.ts';
import type { Emit, Stage } from './events.ts';

export interface StageResult<T> {
  readonly value: T;
  readonly cached: boolean;
  readonly detail?: string | undefined;
}

/** Runs one stage between its started and finished (or failed) events and passes its value on. */
export async function runStage<T>(
  emit: Emit,
  stage: { readonly stage: Stage; readonly title: string; readonly log?: string | undefined },
  work: () => Promise<StageResult<T>>,
): Promise<T> {
  const startedAt = performance.now();
  emit({ type: 'stage-started', ...stage });
  try {
    const { value, cached, detail } = await work();
    emit({ type: 'stage-finished', stage: stage.stage, durationMs: since(startedAt), cached, detail });
    return value;
  } catch (error) {
    if (error instanceof Failure) {
      emit({ type: 'stage-failed', stage: stage.stage, durationMs: since(startedAt), failure: error });
    }
    throw error;
  }
}

function since(startedAt: number): number {
  return Math.round(performance.now() - startedAt);
}
