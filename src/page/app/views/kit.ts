// What several views read.

export type * from "../types";
import type { Leader, TriggerRow } from "../types";

export interface Triggers { triggers: TriggerRow[]; leader?: Leader }
