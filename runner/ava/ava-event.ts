import { z } from 'zod';

/**
 * What AVA tells us of a run, one JSON object per line. Our own words, so that only observe.ts knows AVA's.
 * `file` is absolute.
 */
const named = { file: z.string(), title: z.string() };

export const avaEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('file-started'), file: z.string() }),
  /** The test will run, or is skipped by its own declaration. */
  z.object({ type: z.literal('selected'), ...named, declared: z.enum(['run', 'skip', 'todo']) }),
  z.object({ type: z.literal('passed'), ...named, durationMs: z.number() }),
  z.object({ type: z.literal('failed'), ...named, durationMs: z.number(), message: z.string() }),
  /** Something outside a test went wrong in the file: an import, a hook, an uncaught exception. */
  z.object({ type: z.literal('file-error'), file: z.string(), message: z.string() }),
  /**
   * The test process is gone. `how` is null when it came to its own end; `fromOutside`: by a signal that a
   * program does not give itself by a mistake.
   */
  z.object({
    type: z.literal('file-finished'),
    file: z.string(),
    how: z.string().nullable(),
    fromOutside: z.boolean().default(false),
  }),
  /** AVA heard nothing for `periodMs` and kills the test processes. */
  z.object({ type: z.literal('timeout'), periodMs: z.number() }),
  z.object({ type: z.literal('run-error'), message: z.string() }),
  z.object({ type: z.literal('ended'), interrupted: z.boolean() }),
]);

export type AvaEvent = z.infer<typeof avaEventSchema>;

/** Environment variable with the number of the file descriptor that AVA's process writes the events to. */
export const AVA_EVENTS_FD_ENV = 'FUSEGATE_AVA_EVENTS_FD';
